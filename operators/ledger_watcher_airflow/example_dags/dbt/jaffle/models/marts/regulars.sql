{{ config(materialized='view') }}

select guest_id, guest_name, tickets, last_visit
from {{ ref('guest_value') }}
where tickets >= 3
