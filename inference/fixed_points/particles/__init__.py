"""The theories on a data set: averages over particles instead of quadrature."""
