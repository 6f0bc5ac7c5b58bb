select id from {{ ref('from_fresh') }}
