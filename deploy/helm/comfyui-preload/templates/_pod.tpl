{{- /* The parts of a pool's pod. Each takes a pool. */ -}}

{{- define "preload.config" -}}
{{- $defaults := dict "timeout" .numbers.timeout }}
preload.yaml: |
  {{- $settings := deepCopy .values.preload }}
  {{- include "preload.overlay" (list $defaults $settings) }}
  {{- $defaults | toYaml | nindent 2 }}
{{- range $name, $text := .values.workflows }}
{{ $name | toJson }}: {{ $text | toJson }}
{{- end }}
{{- end }}

{{- define "preload.env" -}}
- {name: PRELOAD_CONFIG, value: /etc/comfyui-preload/preload.yaml}
- name: POD_IP # for `registry.advertise` in preload.yaml
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
{{- if include "preload.secret" .root }}
- {name: PRELOAD_TOKEN_FILE, value: /etc/comfyui-preload-token/PRELOAD_TOKEN}
{{- end }}
{{- with concat .values.extraEnv .values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "preload.locked" -}}
securityContext: {{- include "preload.context" .values.securityContext | trim | nindent 2 }}
{{- end }}

{{- /* The image listens on IPv4; of two equal options the last one counts. */ -}}
{{- define "preload.listen" -}}
{{- $s := .values.service }}
{{- if eq ($s.ipFamilies | join ",") "IPv6" }}["--listen", "::"]
{{- else if or (has "IPv6" $s.ipFamilies) (has $s.ipFamilyPolicy (list "PreferDualStack" "RequireDualStack")) }}["--listen", "0.0.0.0,::"]
{{- else }}[]
{{- end }}
{{- end }}

{{- define "preload.scheme" -}}
{{- has "--tls-keyfile" .values.args | ternary "HTTPS" "HTTP" }}
{{- end }}

{{- /* Probes, worked out from the four facts, with the values written over them. */ -}}
{{- define "preload.probes" -}}
{{- $v := .values }}
{{- $startup := dict "httpGet" (dict "path" "/ready" "port" "probe") "periodSeconds" 5 "timeoutSeconds" 5 "failureThreshold" .numbers.threshold }}
{{- $readiness := dict "httpGet" (dict "path" "/ready" "port" "probe") "periodSeconds" 2 "timeoutSeconds" 2 "failureThreshold" 2 }}
{{- $liveness := dict "httpGet" (dict "path" "/livez" "port" "http") "periodSeconds" 10 "timeoutSeconds" 10 "failureThreshold" 6 }}
{{- if eq (include "preload.scheme" .) "HTTPS" }}{{ $_ := set $liveness.httpGet "scheme" "HTTPS" }}{{ end }}
{{- include "preload.overlay" (list $startup $v.startupProbe) }}
{{- include "preload.overlay" (list $readiness $v.readinessProbe) }}
{{- include "preload.overlay" (list $liveness $v.livenessProbe) }}
# {{ .numbers.budget }} s = 2 x importSeconds + timeout ({{ .numbers.timeout }} s); the plugin's own timeout speaks first
startupProbe: {{- toYaml $startup | nindent 2 }}
readinessProbe: {{- toYaml $readiness | nindent 2 }}
# ComfyUI's own port: it is open once the startup probe has succeeded, and a server that hangs does not answer there
livenessProbe: {{- toYaml $liveness | nindent 2 }}
{{- end }}

{{- define "preload.lifecycle" -}}
{{- $hooks := dict }}
{{- if .values.preStopSeconds }}{{ $_ := set $hooks "preStop" (dict "sleep" (dict "seconds" .values.preStopSeconds)) }}{{ end }}
{{- include "preload.overlay" (list $hooks .values.lifecycle) }}
{{- with $hooks }}
lifecycle: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Where the models come from, mounted as ComfyUI's models folder. */ -}}
{{- define "preload.modelsVolumes" -}}
{{- $v := .values }}
{{- if $v.nodeCache.enabled }}
- name: models-source
  persistentVolumeClaim: {claimName: {{ include "preload.claim" . }}, readOnly: {{ ne (include "preload.download" .) "init" }}}
- name: models
  hostPath: {path: {{ $v.nodeCache.path | quote }}, type: Directory}
{{- else if $v.models.image }}
- name: models
  image: {reference: {{ $v.models.image | quote }}, pullPolicy: {{ $v.image.pullPolicy }}}
{{- else if not $v.models.inImage }}
- name: models
  persistentVolumeClaim: {claimName: {{ include "preload.claim" . }}{{ if ne (include "preload.download" .) "init" }}, readOnly: true{{ end }}}
{{- end }}
{{- end }}

{{- define "preload.modelsMount" -}}
{{- if not .values.models.inImage }}
- {name: models, mountPath: /opt/ComfyUI/models, readOnly: true{{ if and .values.models.subPath (not .values.nodeCache.enabled) }}, subPath: {{ .values.models.subPath | quote }}{{ end }}}
{{- end }}
{{- end }}

{{- /* The volume that holds the models as they were delivered: what is downloaded goes there. */ -}}
{{- define "preload.sourceMount" -}}
{{- $name := .pool.values.nodeCache.enabled | ternary "models-source" "models" -}}
- {name: {{ $name }}, mountPath: {{ .at }}{{ if .readOnly }}, readOnly: true{{ end }}{{ with .pool.values.models.subPath }}, subPath: {{ . | quote }}{{ end }}}
{{- end }}

{{- /* One of ComfyUI's folders: a pool and its name. */ -}}
{{- define "preload.dataMount" -}}
{{- $folder := index . 1 }}{{ $own := get (index . 0).values $folder }}
{{- if $own.existingClaim }}
- {name: {{ $folder }}, mountPath: /data/{{ $folder }}{{ with $own.subPath }}, subPath: {{ . | quote }}{{ end }}}
{{- else }}
- {name: scratch, mountPath: /data/{{ $folder }}, subPath: {{ $folder }}}
{{- end }}
{{- end }}

{{- define "preload.dataVolumes" -}}
{{- $v := .values }}
{{- range $folder := list "input" "output" "user" }}
{{- with (get $v $folder).existingClaim }}
- name: {{ $folder }}
  persistentVolumeClaim: {claimName: {{ . | quote }}}
{{- end }}
{{- end }}
{{- if not (and $v.input.existingClaim $v.output.existingClaim $v.user.existingClaim) }}
- name: scratch
  emptyDir: {sizeLimit: {{ $v.scratch | quote }}}
{{- end }}
- name: tmp
  emptyDir: {sizeLimit: {{ $v.tmp | quote }}}
{{- with $v.shm }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "preload.copyModels" -}}
- name: copy-models
  image: {{ include "preload.poolImage" . }}
  imagePullPolicy: {{ .values.image.pullPolicy }}
  command: [/bin/sh, /scripts/copy-models.sh, /source, /target]
  env:
    - {name: VERIFY, value: {{ .values.nodeCache.verify | ternary "always" "changed" }}}
    - {name: PRUNE_DAYS, value: {{ .values.nodeCache.pruneDays | quote }}}
    - {name: NVIDIA_VISIBLE_DEVICES, value: void} # it needs no GPU
  resources:
    requests: {cpu: "1", memory: 256Mi}
    limits: {memory: 256Mi}
  terminationMessagePolicy: FallbackToLogsOnError
  {{- include "preload.locked" . | trim | nindent 2 }}
  volumeMounts:
    - {name: scripts, mountPath: /scripts, readOnly: true}
    {{- include "preload.sourceMount" (dict "pool" . "at" "/source" "readOnly" true) | trim | nindent 4 }}
    - {name: models, mountPath: /target}
{{- end }}

{{- /* Downloads into the claim; in the pod itself, or in a job that the pod waits for. */ -}}
{{- define "preload.downloadContainer" -}}
- name: {{ .name }}
  image: {{ include "preload.poolImage" .pool }}
  imagePullPolicy: {{ .pool.values.image.pullPolicy }}
  command: [python, /scripts/download_models.py, {{ if .wait }}--wait, {{ end }}/scripts/models.json, /models]
  env:
    - {name: NVIDIA_VISIBLE_DEVICES, value: void} # it needs no GPU
    {{- with .pool.values.models.downloadEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .pool.values.models.downloadSecret }}
  {{- if not $.wait }}
  envFrom:
    - secretRef: {name: {{ . | quote }}}
  {{- end }}
  {{- end }}
  resources:
    requests: {cpu: 100m, memory: 128Mi}
    limits: {memory: 256Mi}
  terminationMessagePolicy: FallbackToLogsOnError
  {{- include "preload.locked" .pool | trim | nindent 2 }}
  volumeMounts:
    - {name: scripts, mountPath: /scripts, readOnly: true}
    {{- include "preload.sourceMount" (dict "pool" .pool "at" "/models" "readOnly" .wait) | trim | nindent 4 }}
{{- end }}

{{- define "preload.initContainers" -}}
{{- $v := .values }}{{ $download := include "preload.download" . }}
{{- with $v.initContainers }}
{{ toYaml . }}
{{- end }}
{{- if $download }}
{{ include "preload.downloadContainer" (dict "pool" . "name" (eq $download "init" | ternary "download-models" "wait-for-models") "wait" (eq $download "job")) }}
{{- end }}
{{- if $v.nodeCache.enabled }}
{{ include "preload.copyModels" . }}
{{- end }}
{{- if $v.prune.enabled }}
{{- $claim := and $v.output.existingClaim $v.prune.claims }}
{{- $scratch := not (and $v.input.existingClaim $v.output.existingClaim $v.user.existingClaim) }}
- name: prune # a sidecar: it starts before ComfyUI and ends after it
  restartPolicy: Always
  image: {{ include "preload.poolImage" . }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  command: [python, /scripts/prune.py, --minutes, {{ $v.prune.minutes | quote }}, --percent, {{ $v.prune.maxPercent | quote }}{{ if $scratch }}, "/volumes/scratch={{ $v.scratch }}"{{ end }}{{ if $claim }}, /volumes/claim{{ end }}, "/volumes/tmp={{ $v.tmp }}"]
  env:
    - {name: NVIDIA_VISIBLE_DEVICES, value: void}
  resources:
    requests: {cpu: 10m, memory: 64Mi}
    limits: {memory: 64Mi}
  {{- include "preload.locked" . | trim | nindent 2 }}
  volumeMounts:
    - {name: scripts, mountPath: /scripts, readOnly: true}
    {{- if $scratch }}
    - {name: scratch, mountPath: /volumes/scratch}
    {{- end }}
    {{- if $claim }}
    - {name: output, mountPath: /volumes/claim/output{{ with $v.output.subPath }}, subPath: {{ . | quote }}{{ end }}}
    {{- end }}
    - {name: tmp, mountPath: /volumes/tmp}
{{- end }}
{{- if eq $v.reloadStrategy "reload" }}
- name: reload # a sidecar: sends POST /preload/reload when the mounted settings change
  restartPolicy: Always
  image: {{ include "preload.poolImage" . }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  command: [python, /scripts/reload.py, /etc/comfyui-preload, {{ printf "%s://127.0.0.1:8188" (include "preload.scheme" . | lower) }}]
  env:
    - {name: PRELOAD_TOKEN_FILE, value: /etc/comfyui-preload-token/PRELOAD_TOKEN}
    - {name: NVIDIA_VISIBLE_DEVICES, value: void}
  resources:
    requests: {cpu: 10m, memory: 64Mi}
    limits: {memory: 64Mi}
  {{- include "preload.locked" . | trim | nindent 2 }}
  volumeMounts:
    - {name: scripts, mountPath: /scripts, readOnly: true}
    - {name: config, mountPath: /etc/comfyui-preload, readOnly: true}
    - {name: token, mountPath: /etc/comfyui-preload-token, readOnly: true}
{{- end }}
{{- if $v.deletionCost.enabled }}
- name: deletion-cost # a sidecar: the replica with the shortest queue goes first
  restartPolicy: Always
  image: {{ include "preload.poolImage" . }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  command: [python, /scripts/deletion_cost.py, "http://127.0.0.1:{{ $v.preload.probe.port }}"]
  env:
    - name: POD_NAME
      valueFrom:
        fieldRef: {fieldPath: metadata.name}
    - {name: NVIDIA_VISIBLE_DEVICES, value: void}
  resources:
    requests: {cpu: 10m, memory: 64Mi}
    limits: {memory: 64Mi}
  {{- include "preload.locked" . | trim | nindent 2 }}
  volumeMounts:
    - {name: scripts, mountPath: /scripts, readOnly: true}
    - {name: kubernetes, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end }}
{{- end }}

{{- /* Volumes for the sidecars. */ -}}
{{- define "preload.sidecarVolumes" -}}
{{- $v := .values }}
- name: scripts
  configMap: {name: {{ .name }}-scripts}
{{- if include "preload.secret" .root }}
- name: token
  secret: {secretName: {{ include "preload.secret" .root | quote }}, items: [{key: PRELOAD_TOKEN, path: PRELOAD_TOKEN}]}
{{- end }}
{{- if $v.deletionCost.enabled }}
- name: kubernetes # for this one sidecar: no other container gets the token
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}
{{- end }}
