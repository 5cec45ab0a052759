"""What operators deploy: alert rules, dashboard, chart, images."""
