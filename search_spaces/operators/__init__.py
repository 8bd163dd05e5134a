"""The operators, one file each. Importing the package imports nothing: the registry walks it when first asked."""
