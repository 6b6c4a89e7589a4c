{{- define "berth.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- define "berth.labels" -}}
app.kubernetes.io/name: berth
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}
{{- /* What the agent is told: agent.yaml. A key of .Values.agent wins. */ -}}
{{- define "berth.config" -}}
{{- $own := dict "store" "kubernetes" "conf-dir" "/etc/cni/net.d" "default-network" .Values.network.name "install-bin" "/opt/cni/bin" "log-format" "json" -}}
{{- if .Values.apiServer }}{{ $_ := set $own "api-server" .Values.apiServer }}{{ end -}}
{{ toYaml (merge (deepCopy .Values.agent) $own) }}
{{- end }}
