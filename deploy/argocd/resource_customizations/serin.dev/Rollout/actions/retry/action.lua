-- Once a revision and attempt: asked twice, it is there already.
local name = obj.metadata.name .. "-retry-" .. obj.status.canary.hash .. "-" .. obj.status.attempt.number
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
        action = "retry",
        reason = "asked for in Argo CD",
      },
    },
  },
}
