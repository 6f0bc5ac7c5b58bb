select id from {{ source('raw', 'fresh') }}
