-- Once a revision, attempt and step: asked twice, it is there already.
local name = obj.metadata.name .. "-approve-" .. obj.status.canary.hash .. "-" .. obj.status.attempt.number .. "-" .. obj.status.currentStepIndex
return {
  {
    operation = "create",
    resource = {
      apiVersion = "serin.dev/v1alpha1",
      kind = "RolloutAction",
      metadata = { name = name, namespace = obj.metadata.namespace },
      spec = {
        rollout = obj.metadata.name,
        revision = obj.status.canary.hash,
        action = "approve",
        step = obj.status.currentStepIndex,
        reason = "asked for in Argo CD",
      },
    },
  },
}
