"""From finished cells to tables, figures and one page, beside the paper's printed numbers."""
