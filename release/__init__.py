"""What `make release` does. No part of the package: it is in a clone, not in a wheel."""
