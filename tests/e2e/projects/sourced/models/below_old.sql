select id from {{ ref('from_old') }}
