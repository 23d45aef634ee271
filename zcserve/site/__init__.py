"""What is served under one set of host names, as data. Knows no connection; what builds and replaces it is above."""
