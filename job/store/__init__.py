"""WRITE: stores (a folder or an S3 bucket), the safetensors format, and the files of a survey."""
