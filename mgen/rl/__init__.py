"""Policy gradient: prompts, credit and advantages, the discriminator, the trainer."""
