"""Where trials run: in this process, in processes of our own, or on any executor of concurrent.futures."""
