"""What happens without anybody asking: schedules, sensors and freshness, one subject a module."""
