"""The paper's evaluation sets (§4) from their public releases, judged by metrics for photographs."""
