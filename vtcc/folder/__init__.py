"""`vtcc cluster`: from a folder of images without labels to clusters that can be looked at."""
