"""What was built, on one HTML page: the set is read, each part of the page is a small table, a template lays it out."""
