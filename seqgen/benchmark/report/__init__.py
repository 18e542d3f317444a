"""What records say: tables, sentences, figures, pages, comparisons."""
