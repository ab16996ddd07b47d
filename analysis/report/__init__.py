"""One self-contained page on one run or several."""
