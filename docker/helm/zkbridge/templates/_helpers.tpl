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

{{- /* What the chart decides goes over what the values say. */ -}}
{{- define "zkbridge.config" -}}
{{- $listen := printf "0.0.0.0:%d" (int .Values.http.port) -}}
{{- $http := dict "listen" $listen "token" "${ZKBRIDGE_HTTP_TOKEN}" -}}
{{- $set := dict "data_dir" "/var/lib/zkbridge" "http" $http -}}
{{- mustMergeOverwrite (deepCopy .Values.config) $set | toYaml -}}
{{- end -}}
