"""Official files, or one's own, to uint8 arrays of one size (paper, III-A)."""
