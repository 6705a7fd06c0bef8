"""`vtcc add`: results that follow their folder, without clustering again."""
