{{/* Names, labels, and what several objects share. The checks are in _checks.tpl. */}}

{{- define "whiteboard-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "whiteboard-gateway.fullname" -}}
{{- $name := include "whiteboard-gateway.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 56 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 56 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 56 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The Service in front of the admin listener; 56 characters leave room for its ending. */}}
{{- define "whiteboard-gateway.adminName" -}}
{{- include "whiteboard-gateway.fullname" . }}-admin
{{- end }}

{{/* The labels of selectors, which never change, since a selector cannot be changed. */}}
{{- define "whiteboard-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "whiteboard-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "whiteboard-gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: whiteboard-gateway
{{ include "whiteboard-gateway.selectorLabels" . }}
{{- end }}

{{- define "whiteboard-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "whiteboard-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "whiteboard-gateway.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "whiteboard-gateway.kind" -}}
{{- ternary "StatefulSet" "Deployment" .Values.persistence.enabled }}
{{- end }}

{{/* The most replicas: by this number limits are divided while the store does not answer. */}}
{{- define "whiteboard-gateway.most" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled }}
{{- end }}

{{- define "whiteboard-gateway.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.tls.existingSecret)) }}
{{- end }}

{{- define "whiteboard-gateway.adminScheme" -}}
{{- ternary "https" "http" (not (empty .Values.admin.tls.existingSecret)) }}
{{- end }}

{{- define "whiteboard-gateway.servicePort" -}}
{{- if .Values.service.port }}
{{- .Values.service.port }}
{{- else }}
{{- ternary 443 80 (not (empty .Values.tls.existingSecret)) }}
{{- end }}
{{- end }}

{{/* The peers of a rule, as text of one element of `ports` for each number. */}}
{{- define "whiteboard-gateway.tcp" -}}
{{- range . }}
- protocol: TCP
  port: {{ . }}
{{- end }}
{{- end }}
