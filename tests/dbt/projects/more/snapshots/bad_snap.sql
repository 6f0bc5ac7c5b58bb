{% snapshot bad_snap %}
{{ config(target_schema='snaps', unique_key='id', strategy='check', check_cols=['name']) }}
select no_such_column_in_a_snapshot from {{ ref('ok_table') }}
{% endsnapshot %}
