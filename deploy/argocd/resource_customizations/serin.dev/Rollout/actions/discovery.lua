-- Each action creates a RolloutAction, bound to the revision and the step that are shown; its answer says what came of it.
local status = obj.status or {}
local is_seen = status.observedGeneration == obj.metadata.generation
local is_aborted = status.aborted ~= nil
local is_running = is_seen and status.canary ~= nil and status.attempt ~= nil and not is_aborted

local awaited = {}
for _, wait in ipairs(status.blockedBy or {}) do
  awaited[wait.reason] = true
end

local actions = {}
actions["approve"] = { ["disabled"] = not (is_running and awaited["AwaitingApproval"] == true) }
actions["promote"] = {
  ["disabled"] = not (is_running and (awaited["PausedByStep"] or awaited["Inconclusive"]) == true),
  ["displayName"] = "Promote the step",
}
actions["promote-full"] = { ["disabled"] = not is_running, ["displayName"] = "Promote past every step" }
actions["abort"] = { ["disabled"] = not is_running }
actions["retry"] = { ["disabled"] = not (is_seen and is_aborted and status.canary ~= nil and status.attempt ~= nil) }
actions["pause"] = { ["disabled"] = not is_running or status.paused ~= nil }
actions["resume"] = { ["disabled"] = not (is_running and status.paused ~= nil) }
actions["restart"] = { ["disabled"] = status.stable == nil, ["displayName"] = "Restart pods" }
return actions
