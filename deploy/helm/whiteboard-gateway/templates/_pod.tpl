{{/* The pod, the same for a Deployment and a StatefulSet. */}}

{{/*
A checksum of what only a restart changes, so that only its change replaces the pods. The gateway reloads
everything else when the file changes.
*/}}
{{- define "whiteboard-gateway.restartChecksum" -}}
{{- $tree := include "whiteboard-gateway.tree" . | fromJson }}
{{- dict "listen" (dig "listen" dict $tree) "format" (dig "log" "format" "" $tree) | toJson | sha256sum }}
{{- end }}

{{- define "whiteboard-gateway.pod" -}}
{{- $values := .Values }}
metadata:
  # Without the version of the chart: a new one alone is no reason to replace pods.
  labels:
    app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
    {{- include "whiteboard-gateway.selectorLabels" . | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or (not $values.sandbox) $values.podAnnotations }}
  annotations:
    {{- if not $values.sandbox }}
    checksum/restart: {{ include "whiteboard-gateway.restartChecksum" . }}
    {{- end }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  serviceAccountName: {{ include "whiteboard-gateway.serviceAccountName" . }}
  automountServiceAccountToken: false
  # The variables of every Service of the namespace are none of the gateway's business.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add $values.shutdown.preDrainSeconds $values.shutdown.drainSeconds $values.shutdown.marginSeconds }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: gateway
      image: {{ include "whiteboard-gateway.image" . }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        - serve
        {{- if $values.sandbox }}
        - --sandbox
        {{- else }}
        - --config
        - /etc/whiteboard-gateway/gateway.toml
        {{- end }}
      env:
        {{- include "whiteboard-gateway.variables" . | trim | nindent 8 }}
        {{- with $values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: {{ include "whiteboard-gateway.scheme" . }}
          containerPort: {{ $values.listen.port }}
          protocol: TCP
        - name: admin
          containerPort: {{ $values.admin.port }}
          protocol: TCP
      # Up to a minute to start; afterwards the other two take over.
      startupProbe:
        httpGet:
          path: /livez
          port: admin
          scheme: {{ include "whiteboard-gateway.adminScheme" . | upper }}
        periodSeconds: 1
        failureThreshold: 60
      # Only a process that answers nothing is started again: neither the whiteboard service nor the store
      # nor a broken configuration would be any better for it.
      livenessProbe:
        httpGet:
          path: /livez
          port: admin
          scheme: {{ include "whiteboard-gateway.adminScheme" . | upper }}
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 3
      readinessProbe:
        httpGet:
          path: /readyz
          port: admin
          scheme: {{ include "whiteboard-gateway.adminScheme" . | upper }}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      {{- with $values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if or (not $values.sandbox) $values.tls.existingSecret $values.admin.tls.existingSecret $values.files }}
      volumeMounts:
        # The directory, never a file of it: only then does the kubelet change what is in it.
        - name: config
          mountPath: /etc/whiteboard-gateway
          readOnly: true
        {{- if $values.persistence.enabled }}
        - name: data
          mountPath: {{ $values.persistence.mountPath }}
        {{- end }}
      {{- end }}
  {{- if or (not $values.sandbox) $values.tls.existingSecret $values.admin.tls.existingSecret $values.files }}
  volumes:
    # One volume, so that a file and what it names change at the same moment.
    - name: config
      projected:
        # Of root, and readable by the group of the pod (fsGroup).
        defaultMode: 0440
        sources:
          {{- include "whiteboard-gateway.sources" . | trim | nindent 10 }}
  {{- end }}
  topologySpreadConstraints:
    {{- if kindIs "slice" $values.topologySpreadConstraints }}
    {{- toYaml $values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "whiteboard-gateway.selectorLabels" $ | nindent 10 }}
      {{- if not $values.persistence.enabled }}
      # Those of this version alone, or a roll-out would spread around the pods that are going.
      matchLabelKeys:
        - pod-template-hash
      {{- end }}
    {{- end }}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What the chart sets: variables override gateway.toml, and their change replaces the pods. */}}
{{- define "whiteboard-gateway.variables" -}}
{{- $values := .Values }}
- name: WBG__LISTEN__ADDRESS
  value: {{ printf "%s:%d" $values.listen.address (int $values.listen.port) | quote }}
- name: WBG__LISTEN__WORKERS
  value: {{ $values.listen.workers | quote }}
- name: WBG__LISTEN__PRE_DRAIN
  value: {{ printf "%ds" (int $values.shutdown.preDrainSeconds) }}
- name: WBG__LISTEN__DRAIN
  value: {{ printf "%ds" (int $values.shutdown.drainSeconds) }}
- name: WBG__ADMIN__ADDRESS
  value: {{ printf "%s:%d" $values.listen.address (int $values.admin.port) | quote }}
{{- with $values.admin.hosts }}
- name: WBG__ADMIN__HOSTS
  value: {{ join "," . | quote }}
{{- end }}
{{- if $values.admin.insecure }}
- name: WBG__ADMIN__INSECURE
  value: "true"
{{- end }}
{{- if $values.admin.tls.existingSecret }}
- name: WBG__ADMIN__TLS__CERTIFICATE
  value: /etc/whiteboard-gateway/admin-tls/tls.crt
- name: WBG__ADMIN__TLS__KEY
  value: /etc/whiteboard-gateway/admin-tls/tls.key
{{- end }}
{{- if $values.tls.existingSecret }}
- name: WBG__LISTEN__TLS__CERTIFICATE
  value: /etc/whiteboard-gateway/tls/tls.crt
- name: WBG__LISTEN__TLS__KEY
  value: /etc/whiteboard-gateway/tls/tls.key
{{- if or $values.tls.clientCA.existingSecret $values.tls.clientCA.existingConfigMap }}
- name: WBG__LISTEN__TLS__CLIENT_CA
  value: /etc/whiteboard-gateway/tls/client-ca.pem
- name: WBG__LISTEN__TLS__CLIENT_AUTH
  value: {{ $values.tls.clientAuth }}
{{- end }}
{{- end }}
{{- if not $values.sandbox }}
- name: WBG__STORE__REPLICAS
  value: {{ include "whiteboard-gateway.most" . | quote }}
{{- end }}
{{- with $values.store }}
{{- if .url }}
- name: WBG__STORE__URL
  value: {{ ternary .url (list .url) (kindIs "slice" .url) | join "," | quote }}
- name: WBG__STORE__MODE
  value: {{ .mode }}
{{- with .master }}
- name: WBG__STORE__MASTER
  value: {{ . | quote }}
{{- end }}
{{- with .username }}
- name: WBG__STORE__USERNAME
  value: {{ . | quote }}
{{- end }}
{{- if .existingSecret }}
- name: WBG__STORE__PASSWORD__FILE
  value: /etc/whiteboard-gateway/secrets/store-password
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What lies below /etc/whiteboard-gateway. */}}
{{- define "whiteboard-gateway.sources" -}}
{{- $values := .Values }}
{{- if not $values.sandbox }}
- configMap:
    name: {{ include "whiteboard-gateway.fullname" . }}
{{- end }}
{{- range $path, $from := $values.files }}
- {{ ternary "secret" "configMap" (hasKey $from "existingSecret") }}:
    name: {{ default $from.existingConfigMap $from.existingSecret }}
    items:
      - key: {{ $from.key }}
        path: {{ $path }}
{{- end }}
{{- with $values.tls }}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret }}
    items:
      - key: tls.crt
        path: tls/tls.crt
      - key: tls.key
        path: tls/tls.key
{{- end }}
{{- with .clientCA }}
{{- if or .existingSecret .existingConfigMap }}
- {{ ternary "secret" "configMap" (not (empty .existingSecret)) }}:
    name: {{ default .existingConfigMap .existingSecret }}
    items:
      - key: {{ .key }}
        path: tls/client-ca.pem
{{- end }}
{{- end }}
{{- end }}
{{- with $values.admin.tls.existingSecret }}
- secret:
    name: {{ . }}
    items:
      - key: tls.crt
        path: admin-tls/tls.crt
      - key: tls.key
        path: admin-tls/tls.key
{{- end }}
{{- with $values.store }}
{{- if and .url .existingSecret }}
- secret:
    name: {{ .existingSecret }}
    items:
      - key: {{ .passwordKey }}
        path: secrets/store-password
{{- end }}
{{- end }}
{{- end }}
