"""Policy gradient: sampling, credit and advantages, the trainer."""
