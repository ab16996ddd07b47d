"""Update rules, one file an algorithm, as NumPyro would take them: no word of our networks."""
