select id from {{ source('raw', 'fresh') }} union all select id from {{ source('raw', 'old') }}
