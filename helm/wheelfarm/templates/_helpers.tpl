{{- define "wheelfarm.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "wheelfarm.selector" -}}
app.kubernetes.io/name: wheelfarm
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "wheelfarm.labels" -}}
{{ include "wheelfarm.selector" . }}
app.kubernetes.io/part-of: wheelfarm
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "wheelfarm.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end -}}

{{- /* What every container has: no rights, no writable root. */ -}}
{{- define "wheelfarm.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "wheelfarm.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
{{- end -}}

{{- /* How the parts find each other; secrets by reference alone. */ -}}
{{- define "wheelfarm.env" -}}
- {name: WHEELFARM_STORE, value: {{ .Values.store.url | quote }}}
{{- with .Values.store.endpoint }}
- {name: WHEELFARM_S3_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with .Values.store.region }}
- {name: WHEELFARM_S3_REGION, value: {{ . | quote }}}
{{- end }}
- {name: WHEELFARM_S3_ADDRESSING, value: {{ .Values.store.addressing | quote }}}
{{- with .Values.store.credentials }}
{{- if .secretName }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .secretName }}, key: {{ .accessKeyIdKey }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .secretName }}, key: {{ .secretAccessKeyKey }}}}
{{- end }}
{{- end }}
{{- if .Values.redis.enabled }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.password.secretName }}, key: {{ .Values.redis.password.key }}}}
- {name: WHEELFARM_BROKER, value: "redis://:$(REDIS_PASSWORD)@{{ include "wheelfarm.name" . }}-redis:6379/0"}
{{- else }}
- name: WHEELFARM_BROKER
  valueFrom: {secretKeyRef: {name: {{ .Values.broker.secretName }}, key: {{ .Values.broker.key }}}}
{{- end }}
- {name: WHEELFARM_METRICS, value: "0.0.0.0:9464"}
- {name: WHEELFARM_LOG_FORMAT, value: {{ .Values.logFormat }}}
{{- if .Values.traces.endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .Values.traces.endpoint | quote }}}
{{- with .Values.traces.headers }}
{{- if .secretName }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ .secretName }}, key: {{ .key }}}}
{{- end }}
{{- end }}
{{- end }}
- {name: HOME, value: /tmp}
{{- end -}}

{{- define "wheelfarm.token" -}}
- name: WHEELFARM_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.token.secretName }}, key: {{ .Values.token.key }}}}
{{- end -}}

{{- define "wheelfarm.config" -}}
{{- if .Values.config.upstreams }}
- {name: WHEELFARM_UPSTREAMS, value: /etc/wheelfarm/upstreams.toml}
{{- end }}
{{- if .Values.config.policy }}
- {name: WHEELFARM_POLICY, value: /etc/wheelfarm/policy.toml}
{{- end }}
{{- if .Values.config.recipes }}
- {name: WHEELFARM_RECIPES, value: /etc/wheelfarm-recipes}
{{- end }}
{{- with .Values.config.index }}
- {name: WHEELFARM_INDEX, value: {{ . | quote }}}
{{- end }}
- {name: WHEELFARM_OFFLINE, value: {{ ternary "1" "0" .Values.config.offline | quote }}}
{{- end -}}

{{- define "wheelfarm.configMounts" -}}
- {name: config, mountPath: /etc/wheelfarm, readOnly: true}
{{- if .Values.config.recipes }}
- {name: recipes, mountPath: /etc/wheelfarm-recipes, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "wheelfarm.configVolumes" -}}
- {name: config, configMap: {name: {{ include "wheelfarm.name" . }}-config}}
{{- if .Values.config.recipes }}
- {name: recipes, configMap: {name: {{ include "wheelfarm.name" . }}-recipes}}
{{- end }}
- {name: tmp, emptyDir: {}}
{{- end -}}

{{- /* The apiVersion of disruption budgets: 1.20 knows v1beta1 alone. */ -}}
{{- define "wheelfarm.budgetVersion" -}}
{{ ternary "policy/v1" "policy/v1beta1" (semverCompare ">=1.21.0-0" .Capabilities.KubeVersion.Version) }}
{{- end -}}

{{- /* A rule of a network policy for what lies outside: its addresses and ports. */ -}}
{{- define "wheelfarm.peers" -}}
- to: {{- toYaml .to | nindent 4 }}
  ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end -}}
