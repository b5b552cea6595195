"""HTTP in and out: the URL table with its one error boundary, and the small resources."""
