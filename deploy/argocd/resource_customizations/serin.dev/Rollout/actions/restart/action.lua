local os = require("os")

local name = obj.metadata.name .. "-restart-" .. os.date("!%Y%m%d%H%M%S")
return {
  {
    operation = "create",
    resource = {
      apiVersion = "serin.dev/v1alpha1",
      kind = "RolloutAction",
      metadata = { name = name, namespace = obj.metadata.namespace },
      spec = {
        rollout = obj.metadata.name,
        revision = obj.status.stable.hash,
        action = "restart",
        reason = "asked for in Argo CD",
      },
    },
  },
}
