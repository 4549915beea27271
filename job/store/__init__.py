"""WRITE: safetensors as streams, the manifest, a local folder or an S3 bucket."""
