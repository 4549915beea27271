"""Where a checkpoint is read from: the Hub, its cache, a folder, S3, a web server."""
