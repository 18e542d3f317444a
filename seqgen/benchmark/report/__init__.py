"""What records say: tables, figures, pages, comparisons."""
