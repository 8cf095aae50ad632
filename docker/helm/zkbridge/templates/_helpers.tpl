{{- define "zkbridge.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "zkbridge.selector" -}}
app.kubernetes.io/name: zkbridge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "zkbridge.labels" -}}
{{ include "zkbridge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "zkbridge.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest | quote }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
{{- end -}}
{{- end -}}

{{- define "zkbridge.env" -}}
{{- /* Each command in the pod, such as `kubectl exec … zkbridge status`, reads the same file. */}}
- name: ZKBRIDGE_CONFIG
  value: /etc/zkbridge/zkbridge.yaml
- name: ZKBRIDGE_HTTP_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .Values.http.tokenSecret }}
      key: {{ .Values.http.tokenKey }}
{{- range $name, $from := .Values.secretEnv }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $from.secret }}
      key: {{ $from.key }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "zkbridge.mounts" -}}
- name: data
  mountPath: /var/lib/zkbridge
- name: config
  mountPath: /etc/zkbridge
  readOnly: true
{{- if .Values.secretFiles }}
- name: secrets
  mountPath: /run/secrets/zkbridge
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* MiB for the journal of each source: seven tenths of the volume, so that the write-ahead logs have room, too. 0 where
the size of the volume has another unit. */ -}}
{{- define "zkbridge.journalMiB" -}}
{{- $sources := max 1 (len .Values.config.source) -}}
{{- $size := toString .Values.persistence.size -}}
{{- if regexMatch "^[0-9]+(Mi|Gi|Ti)$" $size -}}
{{- $unit := get (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[MGT]i$" $size) -}}
{{- div (mul (regexFind "^[0-9]+" $size | int64) $unit 7) (mul 10 $sources) -}}
{{- else -}}
0
{{- end -}}
{{- end -}}

{{- /* What the chart decides goes over what the values say; the sizes of the journals only where the values have none. */ -}}
{{- define "zkbridge.configObject" -}}
{{- include "zkbridge.refuseSecrets" (dict "value" .Values.config "place" "config" "key" "") -}}
{{- $listen := printf "0.0.0.0:%d" (int .Values.http.port) -}}
{{- $http := dict "listen" $listen "token" "${ZKBRIDGE_HTTP_TOKEN}" -}}
{{- $set := dict "data_dir" "/var/lib/zkbridge" "http" $http -}}
{{- $config := mustMergeOverwrite (deepCopy .Values.config) $set -}}
{{- $mib := include "zkbridge.journalMiB" . | int64 -}}
{{- if gt $mib 0 -}}
{{- range $config.source -}}
{{- $_ := set . "journal" (merge (default dict .journal) (dict "max_size" (printf "%d MiB" $mib))) -}}
{{- end -}}
{{- end -}}
{{- $config | toJson -}}
{{- end -}}

{{- define "zkbridge.config" -}}
{{- include "zkbridge.configObject" . | fromJson | toYaml -}}
{{- end -}}

{{- /* The keys that a running bridge does not take over; all of them where it does not reload. */ -}}
{{- define "zkbridge.restartConfig" -}}
{{- $config := include "zkbridge.configObject" . | fromJson -}}
{{- if .Values.reload.enabled -}}
{{- $config = omit $config "source" "sink" -}}
{{- end -}}
{{- $config | toJson -}}
{{- end -}}

{{- /* The keys that docs/configuration-reference.md marks as *Secret*, the sinks by their type; a test compares the two. */ -}}
{{- define "zkbridge.secretKeys" -}}
^(http\.(tokens\.)?token|source\.(auth\.(id|password)|observer\.sasl\.password)|sink\.nats\.auth\.(nkey|password|token)|sink\.webhook\.(headers\..+|key|secrets|url)|sink\.(exec|render)\.env\..+)$
{{- end -}}

{{- /* A ConfigMap is no place for a secret: refuses texts under keys that hold one, unless they refer to it. The names of
the second pattern are secret anywhere, as in the properties of Kafka. */ -}}
{{- define "zkbridge.refuseSecrets" -}}
{{- $place := .place -}}
{{- $above := .key -}}
{{- if kindIs "map" .value -}}
{{- range $name, $value := .value -}}
{{- $inner := printf "%s.%s" $place $name -}}
{{- $key := trimPrefix "." (printf "%s.%s" $above $name) -}}
{{- $names := "(?i)(^|[._-])(password|passphrase|secrets?|token|nkey|seed|ssl\\.key\\.pem)$" -}}
{{- if or (regexMatch (include "zkbridge.secretKeys" $) $key) (regexMatch $names $name) -}}
{{- $texts := ternary $value (list $value) (kindIs "slice" $value) -}}
{{- range $texts -}}
{{- if and (kindIs "string" .) . (not (contains "${" .)) -}}
{{- fail (printf "%s takes a secret, and a ConfigMap is no place for a literal one: put it into a Secret, name that in secretEnv or secretFiles, and write \"${NAME}\" or \"${file:/run/secrets/zkbridge/KEY}\" here; what is none can be in extraEnv" $inner) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "zkbridge.refuseSecrets" (dict "value" $value "place" $inner "key" $key) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- $key := $above -}}
{{- if and (eq $above "sink") (kindIs "map" $value) -}}
{{- $key = printf "sink.%s" (toString $value.type) -}}
{{- end -}}
{{- include "zkbridge.refuseSecrets" (dict "value" $value "place" (printf "%s[%d]" $place $index) "key" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
