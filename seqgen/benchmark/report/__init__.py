"""Reports of records: tables, figures, pages, comparisons."""
