"""Cells as processes: what a cell's folder holds, and running many, here or on Dask."""
