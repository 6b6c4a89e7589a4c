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
{{- $own := dict "store" "kubernetes" "conf-dir" "/etc/cni/net.d" "default-network" .Values.network.name "mode" .Values.mode "install-bin" "/opt/cni/bin" "log-format" "json" -}}
{{- if and .Values.bridgeNetfilter (eq .Values.mode "bridge") }}{{ $_ := set $own "bridge-netfilter" true }}{{ end -}}
{{- if .Values.apiServer }}{{ $_ := set $own "api-server" .Values.apiServer }}{{ end -}}
{{ toYaml (merge (deepCopy .Values.agent) $own) }}
{{- end }}
{{- /* The rights and folders of the node that a container needs which works on its network. */ -}}
{{- define "berth.host" -}}
securityContext:
  privileged: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsUser: 0
  capabilities:
    drop: [ALL]
    add: [NET_ADMIN, NET_RAW]
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
- {name: config, mountPath: /etc/berth, readOnly: true}
- {name: state, mountPath: /run/berth}
- {name: data, mountPath: /var/lib/berth}
- {name: bin, mountPath: /opt/cni/bin}
- {name: conf, mountPath: /etc/cni/net.d}
- {name: netns, mountPath: /run/netns, mountPropagation: HostToContainer}
- {name: sysctl, mountPath: /run/host/proc/sys/net} # /proc/sys is read-only in a container
{{- end }}
{{- define "berth.volumes" -}}
- name: config
  configMap: {name: berth-agent}
- name: state
  hostPath: {path: /run/berth, type: DirectoryOrCreate}
- name: data
  hostPath: {path: /var/lib/berth, type: DirectoryOrCreate}
- name: bin
  hostPath: {path: {{ .Values.cni.binDir }}, type: DirectoryOrCreate}
- name: conf
  hostPath: {path: {{ .Values.cni.confDir }}, type: DirectoryOrCreate}
- name: netns
  hostPath: {path: /run/netns, type: DirectoryOrCreate}
- name: sysctl
  hostPath: {path: /proc/sys/net, type: Directory}
{{- end }}
