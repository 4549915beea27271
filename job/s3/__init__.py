"""What reading from and writing to S3 share: the client, its credentials, and what the store's refusals mean."""
