"""What somebody who runs this for a group needs: doctor, prune, backup and restore, alerts.

One subject a module. Nothing here makes an asset or starts a run, and nothing of it is imported
where the graph is loaded but `alerts` and `room`, which steps and sensors ask.
"""
