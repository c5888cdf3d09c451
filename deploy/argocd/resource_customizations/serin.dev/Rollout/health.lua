-- status.phase and status.message say it all; conditions are for kstatus.
local of_phase = {
  Healthy = "Healthy",
  Progressing = "Progressing",
  Paused = "Suspended",
  Degraded = "Degraded",
}
if obj.status == nil or obj.status.phase == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the controller to see the last change of the Rollout" }
end
return { status = of_phase[obj.status.phase] or "Unknown", message = obj.status.message or "" }
