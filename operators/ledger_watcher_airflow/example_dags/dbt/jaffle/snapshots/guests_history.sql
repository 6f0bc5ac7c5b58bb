{% snapshot guests_history %}
{{ config(unique_key='guest_id', strategy='check', check_cols=['guest_name', 'wants_newsletter']) }}

select * from {{ ref('stg_guests') }}

{% endsnapshot %}
