"""What `tadp doctor` looks at: the machine, its kernels, whether they are right, and whether they are fast."""
