{{/*
Checks that the schema cannot express: between values, or inside the text of `config`. Each refusal names
the value and what to write instead. It never repeats the text: a secret may be in it.
*/}}

{{/* The configuration as a tree; refused if it is not TOML. */}}
{{- define "whiteboard-gateway.tree" -}}
{{- $tree := fromToml .Values.config }}
{{- if hasKey $tree "Error" }}
{{- $at := regexFind "line [0-9]+" (toString $tree.Error) }}
{{- fail (printf "config: this is no TOML, at %s" (default "an unknown line" $at)) }}
{{- end }}
{{- toJson $tree }}
{{- end }}

{{- define "whiteboard-gateway.check" -}}
{{- $values := .Values }}
{{- range ternary $values.store.url (list $values.store.url) (kindIs "slice" $values.store.url) }}
{{- if contains "@" . }}
{{- fail "store.url: no user and no password in it: they are store.username and store.existingSecret" }}
{{- end }}
{{- end }}
{{- if $values.sandbox }}
{{- if or $values.config $values.operators $values.store.url $values.persistence.enabled }}
{{- fail "sandbox: it has a configuration of its own: leave out config, operators, store.url and persistence, or sandbox" }}
{{- end }}
{{- if or (ne (int $values.replicas) 1) $values.autoscaling.enabled }}
{{- fail "sandbox: each pod would have rooms and keys of its own: set replicas to 1, without autoscaling" }}
{{- end }}
{{- else }}
{{- if empty (trim $values.config) }}
{{- fail "config: give it the text of gateway.toml (--set-file config=gateway.toml); or set sandbox to true to try the gateway without a whiteboard project" }}
{{- end }}
{{- $tree := include "whiteboard-gateway.tree" . | fromJson }}
{{- include "whiteboard-gateway.checkOwned" (dict "tree" $tree "values" $values) }}
{{- include "whiteboard-gateway.checkOperators" (dict "tree" $tree "values" $values) }}
{{- include "whiteboard-gateway.checkSecrets" $tree }}
{{- include "whiteboard-gateway.checkReferences" (dict "tree" $tree "values" $values) }}
{{- include "whiteboard-gateway.checkFiles" (dict "tree" $tree "values" $values "most" (include "whiteboard-gateway.most" .)) }}
{{- if and (or $values.store.url (dig "store" "url" "" $tree)) $values.networkPolicy.enabled (empty $values.networkPolicy.egress.store.to) }}
{{- fail "networkPolicy.egress.store.to: say where the store is, or the policy keeps the gateway from it" }}
{{- end }}
{{- end }}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas: is more than autoscaling.maxReplicas" }}
{{- end }}
{{- if and $values.autoscaling.enabled (not $values.autoscaling.inFlight) (not $values.autoscaling.cpu) }}
{{- fail "autoscaling: leave it inFlight or cpu to go by" }}
{{- end }}
{{- if eq (int $values.listen.port) (int $values.admin.port) }}
{{- fail "admin.port: is listen.port as well" }}
{{- end }}
{{- with $values.tls }}
{{- if and .clientCA.existingSecret .clientCA.existingConfigMap }}
{{- fail "tls.clientCA: give it existingSecret or existingConfigMap, not both" }}
{{- end }}
{{- if and (or .clientCA.existingSecret .clientCA.existingConfigMap) (not .existingSecret) }}
{{- fail "tls.clientCA: client certificates need TLS: set tls.existingSecret" }}
{{- end }}
{{- end }}
{{- end }}

{{/* A key that the chart sets by a variable would be overridden silently. */}}
{{- define "whiteboard-gateway.checkOwned" -}}
{{- $tree := .tree }}
{{- $owned := list
  (list "listen" "address" "listen.address and listen.port")
  (list "listen" "workers" "listen.workers")
  (list "listen" "pre_drain" "shutdown.preDrainSeconds")
  (list "listen" "drain" "shutdown.drainSeconds")
  (list "admin" "address" "admin.port")
  (list "admin" "hosts" "admin.hosts")
  (list "admin" "insecure" "admin.insecure")
  (list "store" "replicas" "replicas or autoscaling.maxReplicas")
}}
{{- if .values.store.url }}
{{- range $key := list "url" "mode" "master" "username" "password" }}
{{- $owned = append $owned (list "store" $key (printf "store.%s" (ternary "existingSecret" $key (eq $key "password")))) }}
{{- end }}
{{- end }}
{{- range $owned }}
{{- if hasKey (dig (index . 0) dict $tree) (index . 1) }}
{{- fail (printf "config: %s.%s is set by the chart: use the value %s" (index . 0) (index . 1) (index . 2)) }}
{{- end }}
{{- end }}
{{- $tls := dig "listen" "tls" dict $tree }}
{{- range $key, $value := dict "certificate" "tls.existingSecret" "key" "tls.existingSecret" "client_ca" "tls.clientCA" "client_auth" "tls.clientAuth" }}
{{- if hasKey $tls $key }}
{{- fail (printf "config: listen.tls.%s is set by the chart: use the value %s" $key $value) }}
{{- end }}
{{- end }}
{{- range $key := list "certificate" "key" }}
{{- if hasKey (dig "admin" "tls" dict $tree) $key }}
{{- fail (printf "config: admin.tls.%s is set by the chart: use the value admin.tls.existingSecret" $key) }}
{{- end }}
{{- end }}
{{- if and (dig "admin" "tls" dict $tree) (not .values.admin.tls.existingSecret) }}
{{- fail "config: [admin.tls] needs a certificate: set the value admin.tls.existingSecret" }}
{{- end }}
{{- if and $tls (not .values.tls.existingSecret) }}
{{- fail "config: [listen.tls] needs a certificate: set the value tls.existingSecret" }}
{{- end }}
{{- end }}

{{/* Named here or in the text: the gateway would not start if their keys crossed the network in the clear. */}}
{{- define "whiteboard-gateway.checkOperators" -}}
{{- if and .values.operators (hasKey .tree "operators") }}
{{- fail "config: [operators] is in the value operators as well: name all of them in one of the two" }}
{{- end }}
{{- if and (or .values.operators (hasKey .tree "operators")) (not .values.admin.tls.existingSecret) (not .values.admin.insecure) }}
{{- fail "operators: their keys would cross the network in the clear: set admin.tls.existingSecret, or admin.insecure where a mesh encrypts it" }}
{{- end }}
{{- end }}

{{/* Everyone who may read the namespace can read a ConfigMap. */}}
{{- define "whiteboard-gateway.checkSecrets" -}}
{{- $written := list }}
{{- range $name, $project := dig "projects" dict . }}
{{- if kindIs "map" $project }}
{{- if kindIs "string" $project.sdk_token }}
{{- $written = append $written (printf "projects.%s.sdk_token" $name) }}
{{- end }}
{{- range $index, $key := default list $project.keys }}
{{- if and (kindIs "map" $key) (kindIs "string" $key.secret_key) }}
{{- $written = append $written (printf "projects.%s.keys[%d].secret_key" $name $index) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $issuer := dig "issuers" dict . }}
{{- if and (kindIs "map" $issuer) (kindIs "string" $issuer.secret) }}
{{- $written = append $written (printf "issuers.%s.secret" $name) }}
{{- end }}
{{- end }}
{{- $store := dig "store" dict . }}
{{- range list "password" "sentinel_password" }}
{{- if and (hasKey $store .) (kindIs "string" (get $store .)) }}
{{- $written = append $written (printf "store.%s" .) }}
{{- end }}
{{- end }}
{{- $urls := get $store "url" }}
{{- range ternary $urls (list $urls) (kindIs "slice" $urls) }}
{{- if contains "@" (toString .) }}
{{- $written = append $written "store.url" }}
{{- end }}
{{- end }}
{{- if $written }}
{{- fail (printf "config: %s: a secret that is written out would stand in a ConfigMap: put it into a Secret, name it in the value files, and write { file = \"secrets/…\" }" (join ", " $written)) }}
{{- end }}
{{- end }}

{{/* Writable files need the volume; a file of budgets needs it for one replica alone. */}}
{{- define "whiteboard-gateway.checkFiles" -}}
{{- $values := .values }}
{{- $tree := .tree }}
{{- range list (list "budgets" "file") (list "audit" "file") (list "log" "access") }}
{{- $path := dig (index . 0) (index . 1) "" $tree }}
{{- if and (kindIs "string" $path) (contains "/" $path) }}
{{- $key := join "." . }}
{{- if not $values.persistence.enabled }}
{{- fail (printf "config: %s is a file, and nothing can be written to: set persistence.enabled" $key) }}
{{- end }}
{{- if not (hasPrefix (printf "%s/" $values.persistence.mountPath) $path) }}
{{- fail (printf "config: %s must be below persistence.mountPath, %s" $key $values.persistence.mountPath) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (dig "budgets" "file" "" $tree) (gt (int .most) 1) }}
{{- fail "config: budgets.file: each of several replicas would give out the whole budget: set replicas to 1, without autoscaling" }}
{{- end }}
{{- end }}

{{/*
What the configuration refers to outside of itself, a line each: `file` or `env`, its key and its name. Secrets
are `{ file = "…" }` or `{ env = "…" }`, certificates and public keys are paths. Files that are written to, and
tables with names of others as their keys, are none.
*/}}
{{- define "whiteboard-gateway.references" -}}
{{- $at := .at }}
{{- $name := .name }}
{{- if kindIs "map" .value }}
{{- if not (or (has $at (list "audit" "budgets" "otlp.resource")) (hasSuffix ".map" $at)) }}
{{- range $key, $value := .value }}
{{- include "whiteboard-gateway.references" (dict "at" (ternary $key (printf "%s.%s" $at $key) (empty $at)) "name" $key "value" $value) }}
{{- end }}
{{- end }}
{{- else if kindIs "slice" .value }}
{{- range $index, $value := .value }}
{{- include "whiteboard-gateway.references" (dict "at" (printf "%s[%d]" $at $index) "name" $name "value" $value) }}
{{- end }}
{{- else if has $name (list "file" "ca" "key_file" "client_crl") }}
{{- printf "file\t%s\t%s\n" $at (toString .value) }}
{{- else if eq $name "env" }}
{{- printf "env\t%s\t%s\n" $at (toString .value) }}
{{- end }}
{{- end }}

{{/* A file that no value mounts, or a variable that no value sets, would be noticed by the pod alone. */}}
{{- define "whiteboard-gateway.checkReferences" -}}
{{- $files := keys .values.files }}
{{- $variables := list }}
{{- range .values.env }}
{{- $variables = append $variables .name }}
{{- end }}
{{- range splitList "\n" (include "whiteboard-gateway.references" (dict "at" "" "name" "" "value" .tree)) }}
{{- $parts := splitList "\t" . }}
{{- if eq (first $parts) "file" }}
{{- $path := trimPrefix "/etc/whiteboard-gateway/" (last $parts) | clean }}
{{- if not (or (isAbs $path) (has $path $files)) }}
{{- fail (printf "config: %s: no value mounts this file: add its path to the value files, with existingSecret or existingConfigMap and key" (index $parts 1)) }}
{{- end }}
{{- else if eq (first $parts) "env" }}
{{- if not (has (last $parts) $variables) }}
{{- fail (printf "config: %s: the pod has no such variable: add it to the value env" (index $parts 1)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
