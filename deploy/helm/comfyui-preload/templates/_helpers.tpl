{{- define "preload.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "preload.selector" -}}
app.kubernetes.io/name: comfyui-preload
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "preload.labels" -}}
{{ include "preload.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "preload.claim" -}}
{{ .Values.models.existingClaim | default (printf "%s-models" (include "preload.name" .)) }}
{{- end }}

{{- /* The formula of docs/kubernetes.md, as JSON. */ -}}
{{- define "preload.numbers" -}}
{{- $v := .Values }}
{{- $load := addf (divf $v.modelBytes $v.storageSpeed) $v.warmupSeconds }}
{{- $timeout := max 60 (ceil (mulf 2 $load)) | int64 }}
{{- with $v.preload.timeout }}
  {{- if lt (float64 .) $load }}
    {{- fail (printf "preload.timeout is %v, but modelBytes / storageSpeed + warmupSeconds is %v s: raise it, or leave it out" . (ceil $load)) }}
  {{- end }}
  {{- $timeout = . }}
{{- end }}
{{- if gt (float64 $timeout) 86400.0 }}
  {{- fail (printf "loading would take %v s (modelBytes / storageSpeed + warmupSeconds), and may take a day at most, twice that included" (ceil $load)) }}
{{- end }}
{{- $budget := add (ceil $timeout | int64) (ceil (mulf 2 $v.importSeconds) | int64) }}
{{- $grace := add 5 (ceil $v.preload.drain | int64) 10 }}
{{- $threshold := add1 (ceil (divf $budget 5) | int64) }}
{{- dict "timeout" $timeout "budget" $budget "threshold" $threshold "grace" $grace | toJson }}
{{- end }}

{{- define "preload.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
{{- end }}

{{- define "preload.locked" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
