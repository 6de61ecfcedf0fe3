"""What a running proxy tells about itself: logs, and a watchdog over its event loop."""
