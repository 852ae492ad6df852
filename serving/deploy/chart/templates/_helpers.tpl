{{- define "turnout.name" -}}
{{- if contains "turnout" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-turnout{{ end }}
{{- end }}

{{- define "turnout.selector" -}}
app.kubernetes.io/name: turnout
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "turnout.labels" -}}
{{ include "turnout.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Kubelet's gRPC probes speak no TLS: with certificates it asks the HTTP port, whose name it does not check. */ -}}
{{- define "turnout.ready" -}}
{{- if .Values.tls.secretName -}}
httpGet: {path: /readyz, port: http, scheme: HTTPS}
{{- else -}}
grpc: {port: 50151, service: turnout.v1.RouterService}
{{- end -}}
{{- end }}

{{- define "turnout.alive" -}}
{{- if .Values.tls.secretName -}}
httpGet: {path: /healthz, port: http, scheme: HTTPS}
{{- else -}}
grpc: {port: 50151}
{{- end -}}
{{- end }}
