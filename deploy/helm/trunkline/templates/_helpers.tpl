{{/* Names, labels and parts that several templates share. */}}

{{- define "trunkline.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes a dict with root and component. */}}
{{- define "trunkline.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
trunkline/pool: {{ . }}
{{- end }}
{{- end }}

{{- define "trunkline.labels" -}}
{{ include "trunkline.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: trunkline
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "trunkline.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/*
Seconds between SIGTERM, or the preStop before it, and SIGKILL: the lame duck time (5 s), what work in flight may take,
and 5 s more. trunkline.serve.lifecycle.stop_grace says the same. Takes the drain time.
*/}}
{{- define "trunkline.stopGrace" -}}
{{- add 5 . 5 }}
{{- end }}

{{- define "trunkline.settings" -}}
{{- .Values.settings | default (printf "%s.settings" (regexReplaceAll "\\.?[A-Za-z0-9_]+:.*$" .Values.application "")) }}
{{- end }}

{{/* Whether the application is the chat example: "true" or nothing. */}}
{{- define "trunkline.chat" -}}
{{- if eq .Values.application "chatsite.asgi:application" }}true{{ end }}
{{- end }}

{{/* The worker pools; a worker refuses a channel that its application doesn't know. */}}
{{- define "trunkline.workers" -}}
{{- if kindIs "slice" .Values.workers }}
{{- toYaml .Values.workers }}
{{- else if include "trunkline.chat" . }}
{{- list (dict "name" "thumbnail" "channels" (list "thumbnail")) | toYaml }}
{{- else -}}
[]
{{- end }}
{{- end }}

{{/* Whether the demo's claim is used: "true" or nothing. */}}
{{- define "trunkline.demo" -}}
{{- if and .Values.demoVolume.enabled (not .Values.database.url) (not .Values.database.existingSecret) }}true{{ end }}
{{- end }}

{{/* --- Secrets --- */}}

{{/*
The content of the release's Secret. What is made here is made once for each release: an upgrade finds it in the
cluster. Within one rendering it is remembered, so that the Secret and its checksums agree.
*/}}
{{- define "trunkline.secretData" -}}
{{- if not (hasKey .Values "rememberedSecret") }}
{{- $found := (lookup "v1" "Secret" .Release.Namespace (include "trunkline.fullname" .)).data | default dict }}
{{- $data := dict }}
{{- if and .Values.redis.enabled (not .Values.redis.existingSecret) }}
{{- $_ := set $data "redis-password" (get $found "redis-password" | default (randAlphaNum 40 | b64enc)) }}
{{- end }}
{{- if not .Values.secretKey.existingSecret }}
{{- $_ := set $data "django-secret-key" (get $found "django-secret-key" | default (randAlphaNum 60 | b64enc)) }}
{{- end }}
{{- with .Values.channelLayers.config }}
{{- $_ := set $data "channel-layers-config" (kindIs "string" . | ternary . (toJson .) | b64enc) }}
{{- end }}
{{- with .Values.database.url }}
{{- $_ := set $data "database-url" (b64enc .) }}
{{- end }}
{{- $_ := set .Values "rememberedSecret" $data }}
{{- end }}
{{- toYaml .Values.rememberedSecret }}
{{- end }}


{{- define "trunkline.redisPasswordSecret" -}}
{{- if .root.Values.redis.existingSecret }}{{ .root.Values.redis.existingSecret }}
{{- else if .root.Values.redis.enabled }}{{ .secret }}
{{- end }}
{{- end }}

{{- define "trunkline.redisPasswordKey" -}}
{{- if .Values.redis.existingSecret }}{{ .Values.redis.existingSecretKey }}{{ else }}redis-password{{ end }}
{{- end }}

{{/* --- Pods --- */}}

{{- define "trunkline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "trunkline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The beginning of every pod's spec. */}}
{{- define "trunkline.podSpec" -}}
automountServiceAccountToken: false
# A service named trunkline would otherwise set TRUNKLINE_PORT.
enableServiceLinks: false
securityContext: {{- include "trunkline.podSecurity" . | nindent 2 }}
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
Labels of pods: no version among them, which would restart what didn't change. Takes what labels take, and demo for pods
that mount the demo's claim, by which they find each other's node.
*/}}
{{- define "trunkline.podLabels" -}}
{{ include "trunkline.selector" . }}
{{- if and .demo (include "trunkline.demo" .root) }}
trunkline/demo-volume: {{ include "trunkline.fullname" .root }}
{{- end }}
{{- with .root.Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "trunkline.demoAffinity" -}}
{{- if include "trunkline.demo" . -}}
affinity:
  # One node may mount the claim.
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {trunkline/demo-volume: {{ include "trunkline.fullname" . }}}
{{- end }}
{{- end }}

{{/* A container of the project, without name and command. Takes root, secret (its name), env (a list) and resources. */}}
{{- define "trunkline.container" -}}
{{- $root := .root }}
{{- $values := .root.Values }}
{{- $host := include "trunkline.fullname" .root -}}
image: {{ include "trunkline.image" .root }}
imagePullPolicy: {{ $values.image.pullPolicy }}
securityContext: {{- include "trunkline.containerSecurity" .root | nindent 2 }}
resources: {{- toYaml .resources | nindent 2 }}
env:
  - {name: ASGI_APPLICATION, value: {{ $values.application | quote }}}
  - {name: DJANGO_SETTINGS_MODULE, value: {{ include "trunkline.settings" .root | quote }}}
  - {name: TRUNKLINE_MODE, value: {{ $values.mode | quote }}}
  - {name: TRUNKLINE_RELEASE, value: {{ $values.release | default $values.image.tag | default .root.Chart.AppVersion | quote }}}
  {{- with $values.channelLayers.backend }}
  - {name: CHANNEL_LAYERS_BACKEND, value: {{ . | quote }}}
  {{- end }}
  {{- if $values.channelLayers.existingSecret }}
  - {name: CHANNEL_LAYERS_CONFIG_FILE, value: /run/channel-layers/config}
  {{- else if $values.channelLayers.config }}
  - name: CHANNEL_LAYERS_CONFIG
    valueFrom: {secretKeyRef: {name: {{ .secret }}, key: channel-layers-config}}
  {{- end }}
  {{- if $values.redis.enabled }}
  - {name: REDIS_URL, value: {{ printf "redis://%s-redis:6379/0" $host | quote }}}
  {{- else if $values.redis.url }}
  - {name: REDIS_URL, value: {{ $values.redis.url | quote }}}
  {{- end }}
  {{- if include "trunkline.redisPasswordSecret" . }}
  - {name: REDIS_PASSWORD_FILE, value: /run/redis-password/password}
  {{- end }}
  {{- if $values.database.existingSecret }}
  - name: DATABASE_URL
    valueFrom: {secretKeyRef: {name: {{ $values.database.existingSecret }}, key: {{ $values.database.existingSecretKey }}}}
  {{- else if $values.database.url }}
  - name: DATABASE_URL
    valueFrom: {secretKeyRef: {name: {{ .secret }}, key: database-url}}
  {{- end }}
  - name: DJANGO_SECRET_KEY
    {{- if $values.secretKey.existingSecret }}
    valueFrom: {secretKeyRef: {name: {{ $values.secretKey.existingSecret }}, key: {{ $values.secretKey.existingSecretKey }}}}
    {{- else }}
    valueFrom: {secretKeyRef: {name: {{ .secret }}, key: django-secret-key}}
    {{- end }}
  {{- $service := list $host (printf "%s.%s" $host .root.Release.Namespace) (printf "%s.%s.svc" $host .root.Release.Namespace) }}
  {{- $hosts := concat (list "localhost" "127.0.0.1" "[::1]") $service $values.ingress.hosts $values.allowedHosts }}
  - {name: DJANGO_ALLOWED_HOSTS, value: {{ join " " $hosts | quote }}}
  {{- if and $values.ingress.enabled $values.ingress.tls }}
  {{- $origins := list }}
  {{- range $values.ingress.hosts }}
  {{- $origins = append $origins (printf "https://%s" .) }}
  {{- end }}
  - {name: DJANGO_CSRF_TRUSTED_ORIGINS, value: {{ join " " $origins | quote }}}
  {{- end }}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if include "trunkline.redisPasswordSecret" . }}
  - {name: redis-password, mountPath: /run/redis-password, readOnly: true}
  {{- end }}
  {{- if $values.channelLayers.existingSecret }}
  - {name: channel-layers, mountPath: /run/channel-layers, readOnly: true}
  {{- end }}
  {{- if include "trunkline.demo" .root }}
  - {name: data, mountPath: /data}
  {{- end }}
{{- end }}

{{/* The volumes of that container. Takes root and secret. */}}
{{- define "trunkline.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 512Mi}
{{- with include "trunkline.redisPasswordSecret" . }}
- name: redis-password
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - {key: {{ include "trunkline.redisPasswordKey" $.root }}, path: password}
{{- end }}
{{- with .root.Values.channelLayers.existingSecret }}
- name: channel-layers
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{key: {{ $.root.Values.channelLayers.existingSecretKey }}, path: config}]
{{- end }}
{{- if include "trunkline.demo" .root }}
- name: data
  persistentVolumeClaim: {claimName: {{ include "trunkline.fullname" .root }}-demo}
{{- end }}
{{- end }}

{{/* What a pod that serves waits for: its code's migrations. Nobody restarts it for that, so it says what is missing. */}}
{{- define "trunkline.waitForMigrations" -}}
{{- if .root.Values.migrations.enabled -}}
initContainers:
  - name: migrated
    command: [sh, -c, "until python3 -m django migrate --check; do sleep 2; done"]
    {{- include "trunkline.container" (dict "root" .root "secret" .secret "resources" .root.Values.migrations.resources) | nindent 4 }}
{{- end }}
{{- end }}
