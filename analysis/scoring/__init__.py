"""Is a scheme right? Its answers to the named problems, held against reference posteriors."""
