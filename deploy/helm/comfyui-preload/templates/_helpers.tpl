{{- /* A name of at most 50 characters that DNS-1035 takes; a longer one is cut and ends in a part of its hash. */ -}}
{{- define "preload.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- $full := printf "%s-%s" .Release.Name $name }}
{{- if .Values.fullnameOverride }}{{ $full = .Values.fullnameOverride }}
{{- else if contains $name .Release.Name }}{{ $full = .Release.Name }}
{{- end }}
{{- if regexMatch "^[0-9]" $full }}{{ $full = printf "r%s" $full }}{{ end }}
{{- include "preload.cut" (list ($full | replace "." "-") 40) }}
{{- end }}

{{- define "preload.cut" -}}
{{- $name := index . 0 }}{{ $most := index . 1 }}
{{- if gt (len $name) $most }}
  {{- $name = printf "%s-%s" ($name | trunc (int (sub $most 9)) | trimSuffix "-" | trimSuffix ".") (sha256sum $name | trunc 8) }}
{{- end }}
{{- $name }}
{{- end }}

{{- define "preload.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* Labels of one object: the root and a component. */ -}}
{{- define "preload.labels" -}}
{{- $root := index . 0 }}
{{- include "preload.selector" $root }}
app.kubernetes.io/component: {{ index . 1 | quote }}
app.kubernetes.io/part-of: comfyui
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | quote }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* metadata of an object: root, name, component, more labels, more annotations. */ -}}
{{- define "preload.metadata" -}}
{{- $root := index . 0 }}
name: {{ index . 1 | quote }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- include "preload.labels" (list $root (index . 2)) | nindent 2 }}
  {{- with index . 3 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (index . 4 | default dict) ($root.Values.commonAnnotations | default dict) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Writes the second mapping over the first, key by key; null takes a key away. Sprig's own merge keeps what is false or 0. */ -}}
{{- define "preload.overlay" -}}
{{- $under := index . 0 }}
{{- range $key, $value := index . 1 }}
  {{- $old := get $under $key }}
  {{- if kindIs "invalid" $value }}{{ $_ := unset $under $key }}
  {{- else if and (kindIs "map" $value) (kindIs "map" $old) }}{{ include "preload.overlay" (list $old $value) }}
  {{- else }}{{ $_ := set $under $key $value }}
  {{- end }}
{{- end }}
{{- end }}

{{- /*
Fills the mapping `into` with the pools: by name, {name, component, selector, values, numbers}. What cannot work ends here.
*/ -}}
{{- define "preload.pools" -}}
{{- $root := .root }}{{ $into := .into }}
{{- $base := omit $root.Values "pools" "global" "gateway" "redis" "ingress" "httpRoute" "networkPolicy" "serviceMonitor" "prometheusRule" "dashboard" "extraObjects" "serviceAccount" "token" "existingSecret" "commonLabels" "commonAnnotations" "nameOverride" "fullnameOverride" }}
{{- $pools := $root.Values.pools | default (dict "" dict) }}
{{- range $name, $own := $pools }}
  {{- $values := deepCopy $base }}
  {{- include "preload.overlay" (list $values ($own | default dict)) }}
  {{- $full := include "preload.fullname" $root }}
  {{- if $name }}{{ $full = include "preload.cut" (list (printf "%s-%s" $full $name) 50) }}{{ end }}
  {{- $pool := dict "pool" $name "name" $full "values" $values "root" $root }}
  {{- $_ := set $pool "many" (gt (include "preload.most" $values | int) 1) }}
  {{- include "preload.registry" $pool }}
  {{- include "preload.refuse" $pool }}
  {{- $_ := set $pool "numbers" (include "preload.numbers" $values | fromJson) }}
  {{- $_ := set $into ($name | default "comfyui") $pool }}
{{- end }}
{{- end }}

{{- /* The most replicas that a pool may have. */ -}}
{{- define "preload.most" -}}
{{- eq .autoscaling.kind "none" | ternary .autoscaling.replicas .autoscaling.maxReplicas }}
{{- end }}

{{- /* Selector of the pods of a pool. */ -}}
{{- define "preload.poolSelector" -}}
{{- include "preload.selector" .root }}
app.kubernetes.io/component: comfyui
{{- if .pool }}
comfy-preload/pool: {{ .pool | quote }}
{{- end }}
{{- end }}

{{- define "preload.poolLabels" -}}
{{- if .pool }}{{ dict "comfy-preload/pool" .pool | toYaml }}{{ else }}{}{{ end }}
{{- end }}

{{- /* The registry of a pool: the chart's own Redis where there is none in the settings. */ -}}
{{- define "preload.registry" -}}
{{- $v := .values }}
{{- if and .root.Values.redis.enabled (not $v.preload.registry) }}
  {{- $tls := has "--tls-keyfile" $v.args }}
  {{- $_ := set $v.preload "registry" (dict
    "redis" (printf "redis://%s-redis:6379/0" (include "preload.fullname" .root))
    "advertise" (printf "%s://${POD_IP}:8188" ($tls | ternary "https" "http"))) }}
{{- end }}
{{- end }}

{{- /* Combinations that cannot work, each with a sentence that says what to change. */ -}}
{{- define "preload.refuse" -}}
{{- $v := .values }}{{ $auto := $v.autoscaling }}{{ $root := .root }}
{{- $where := ternary (printf "pools.%s: " .pool) "" (ne .pool "") }}
{{- $rwo := and (not $v.models.existingClaim) (not $v.models.image) (not $v.models.inImage) (not (has "ReadWriteMany" $v.models.accessModes)) (not (has "ReadOnlyMany" $v.models.accessModes)) }}
{{- $_ := set . "rwo" $rwo }}
{{- if and $rwo .many }}
  {{- fail (printf "%sa claim with %v is for one node, but there may be %v replicas: models.accessModes [ReadWriteMany], models.image, or one replica" $where $v.models.accessModes (include "preload.most" $v)) }}
{{- end }}
{{- if and (ne $auto.kind "none") (lt (int $auto.maxReplicas) (int $auto.minReplicas)) }}
  {{- fail (printf "%sautoscaling.maxReplicas is %v, less than minReplicas, %v" $where $auto.maxReplicas $auto.minReplicas) }}
{{- end }}
{{- if and (ne $auto.kind "none") (eq (int $auto.minReplicas) 0) }}
  {{- if ne $auto.kind "keda" }}{{ fail (printf "%sautoscaling.minReplicas 0 needs kind keda" $where) }}{{ end }}
  {{- if not $auto.triggers }}{{ fail (printf "%sautoscaling.minReplicas 0: while nobody runs there is no queue to see, so nothing would start a replica; add a trigger to autoscaling.triggers, such as cron or a queue in front" $where) }}{{ end }}
{{- end }}
{{- if and (eq $auto.kind "keda") (not $root.Values.serviceMonitor.enabled) (not $auto.query) }}
  {{- fail (printf "%sautoscaling.kind keda asks Prometheus for figures that nobody scrapes: serviceMonitor.enabled true, or autoscaling.query for those that you scrape yourself" $where) }}
{{- end }}
{{- if and (has (toString $v.rollingUpdate.maxSurge) (list "0" "0%")) (has (toString $v.rollingUpdate.maxUnavailable) (list "0" "0%")) }}
  {{- fail (printf "%srollingUpdate.maxSurge and maxUnavailable are both 0: no pod could ever be replaced" $where) }}
{{- end }}
{{- if and $v.user.existingClaim .many }}
  {{- fail (printf "%suser.existingClaim: ComfyUI's database there is for one process, and there may be %v replicas: one replica, or no claim" $where (include "preload.most" $v)) }}
{{- end }}
{{- if and $v.nodeCache.enabled (or $v.models.image $v.models.inImage) }}
  {{- fail (printf "%snodeCache copies from a claim: without models.image and models.inImage" $where) }}
{{- end }}
{{- if and $v.models.image $v.models.inImage }}{{ fail (printf "%smodels.image and models.inImage: choose one" $where) }}{{ end }}
{{- if and $v.models.download (or $v.models.image $v.models.inImage) }}
  {{- fail (printf "%smodels.download fills a claim: without models.image and models.inImage" $where) }}
{{- end }}
{{- if and (eq $v.models.downloadAs "job") $rwo }}
  {{- fail (printf "%smodels.downloadAs job with a ReadWriteOnce claim: the job and the pod would wait for each other on different nodes; use init" $where) }}
{{- end }}
{{- if and (eq $v.reloadStrategy "reload") (not $root.Values.token) (not $root.Values.existingSecret) }}
  {{- fail (printf "%sreloadStrategy reload sends a command: set token or existingSecret" $where) }}
{{- end }}
{{- if and $root.Values.gateway.enabled (not $v.preload.registry) }}
  {{- fail (printf "%sgateway.enabled needs the registry: redis.enabled true, or preload.registry with a Redis of yours" $where) }}
{{- end }}
{{- with $v.preload.registry }}
  {{- if and (eq (toString .access) "token") (not $root.Values.token) (not $root.Values.existingSecret) }}
    {{- fail (printf "%spreload.registry.access is token, and there is none: set token or existingSecret" $where) }}
  {{- end }}
  {{- if and $root.Values.networkPolicy.enabled (not $root.Values.redis.enabled) (not $root.Values.networkPolicy.egress) }}
    {{- fail (printf "%spreload.registry: the NetworkPolicy lets nothing but DNS out, so Redis would be out of reach; add it to networkPolicy.egress" $where) }}
  {{- end }}
  {{- if regexMatch "://[^/@$]*:[^/@$]+@" (toString .redis) }}
    {{- fail (printf "%spreload.registry.redis holds a password, which would be in a ConfigMap: write ${REDIS_PASSWORD} and give the variable with extraEnv or envFrom" $where) }}
  {{- end }}
{{- end }}
{{- include "preload.exact" (dict "where" (printf "%spreload" $where) "value" $v.preload) }}
{{- end }}

{{- /* Helm reads every number as a float: a long seed would arrive as another one. */ -}}
{{- define "preload.exact" -}}
{{- $where := .where }}
{{- if kindIs "map" .value }}
  {{- range $key, $inner := .value }}{{ include "preload.exact" (dict "where" (printf "%s.%s" $where $key) "value" $inner) }}{{ end }}
{{- else if kindIs "slice" .value }}
  {{- range $i, $inner := .value }}{{ include "preload.exact" (dict "where" (printf "%s[%d]" $where $i) "value" $inner) }}{{ end }}
{{- else if kindIs "float64" .value }}
  {{- if or (gt .value 9007199254740991.0) (lt .value -9007199254740991.0) }}
    {{- fail (printf "%s is a number that Helm cannot keep exactly: write it in quotes" $where) }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "preload.claim" -}}
{{ .values.models.existingClaim | default (printf "%s-models" .name) }}
{{- end }}

{{- /* The formula of docs/kubernetes.md, as JSON. Takes the values of a pool. */ -}}
{{- define "preload.numbers" -}}
{{- $v := . }}
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
{{- $grace := add (int64 $v.preStopSeconds) (ceil $v.preload.drain | int64) 10 }}
{{- $threshold := add1 (ceil (divf $budget 5) | int64) }}
{{- dict "timeout" $timeout "budget" $budget "threshold" $threshold "grace" $grace | toJson }}
{{- end }}

{{- /* An image: root, {registry, repository, tag, digest}, default tag. */ -}}
{{- define "preload.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 }}
{{- $registry := (dig "imageRegistry" "" ($root.Values.global | default dict)) | default $image.registry }}
{{- $name := ternary (printf "%s/%s" $registry $image.repository) $image.repository (ne $registry "") }}
{{- ternary (printf "%s@%s" $name $image.digest) (printf "%s:%s" $name ($image.tag | default (index . 2))) (ne $image.digest "") | quote }}
{{- end }}

{{- define "preload.poolImage" -}}
{{- include "preload.image" (list .root .values.image .root.Chart.AppVersion) }}
{{- end }}

{{- define "preload.pullSecrets" -}}
{{- $names := list }}
{{- range concat (dig "imagePullSecrets" list (.Values.global | default dict)) .Values.imagePullSecrets }}
  {{- $names = append $names (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $names | uniq }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "preload.storageClass" -}}
{{- $class := index . 1 | default (dig "storageClass" "" ((index . 0).Values.global | default dict)) }}
{{- if eq $class "-" }}
storageClassName: ""
{{- else if $class }}
storageClassName: {{ $class | quote }}
{{- end }}
{{- end }}

{{- define "preload.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "preload.fullname" .) }}
{{- else }}{{ .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "preload.secret" -}}
{{- if or .Values.token .Values.existingSecret }}{{ .Values.existingSecret | default (printf "%s-token" (include "preload.fullname" .)) }}{{ end }}
{{- end }}

{{- /* A security context without what is null in the values. Takes a mapping. */ -}}
{{- define "preload.context" -}}
{{- $kept := dict }}
{{- range $key, $value := . }}{{ if not (kindIs "invalid" $value) }}{{ $_ := set $kept $key $value }}{{ end }}{{ end }}
{{- toYaml $kept }}
{{- end }}

{{- /* How the models of a pool are delivered by models.download: job, init or nothing. */ -}}
{{- define "preload.download" -}}
{{- if .values.models.download }}
  {{- if ne .values.models.downloadAs "auto" }}{{ .values.models.downloadAs }}
  {{- else }}{{ ternary "init" "job" (or .rwo (ne .values.models.existingClaim "")) }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "preload.downloadHash" -}}
{{- toJson .values.models.download | sha256sum | trunc 10 }}
{{- end }}
