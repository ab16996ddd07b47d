"""What the answers say: order parameters, diagnostics, comparison, plots and the command line."""
