if obj.status == nil or obj.status.accepted == nil then
  return { status = "Progressing", message = "Waiting for the controller to answer" }
end
if obj.status.accepted then
  return { status = "Healthy", message = obj.status.message or "" }
end
return { status = "Degraded", message = obj.status.message or "" }
